"""The browser pages and the command line: everything that talks to a Tongke server from outside."""
