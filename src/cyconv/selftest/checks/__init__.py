"""One module a check; `cyconv.selftest` says what each has."""
