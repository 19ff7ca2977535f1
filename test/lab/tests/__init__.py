"""The lab's tests: with two real hosts."""
