"""horovodrun whose listeners are for this machine only: `python -m nightjar.training.run.horovodrun ARGUMENTS`."""

if __name__ == "__main__":
    # In here, since every process that horovodrun starts imports this module again.
    from nightjar.training.run.collective import run_on_loopback

    run_on_loopback()
