"""Who has an account here: accounts, pools, credentials and tokens, kept by the one process ``__accounts__``."""
