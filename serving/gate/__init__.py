"""Is a candidate sound, and no worse than the champion?"""
