"""The night: its steps, what it begins with, its verdict, and what a run says and leaves behind."""
