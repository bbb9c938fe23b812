"""`python -m grooming_flag` is the same as the command `grooming-flag`."""

from grooming_flag.cli import main

if __name__ == "__main__":
    main()
