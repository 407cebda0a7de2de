# Two commands do everything: `make run` and `make test`. Both install what they need first.
