"""The plain definitions that everything is compared with, and random cases for them; `tests` uses both.

They are installed because what they prove on one machine says little about another.
"""
