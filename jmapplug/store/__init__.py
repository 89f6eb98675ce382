"""The store of an account: two SQLite files and its blob files (design §5). Pure of any capability's tables."""
