"""horovodrun whose listeners are for this machine only: `python -m nightjar.training.run.horovodrun ARGUMENTS`."""

from nightjar.training.run.collective import run_on_loopback

if __name__ == "__main__":
    run_on_loopback()
