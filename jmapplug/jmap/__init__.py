"""RFC 8620 as pure functions: requests, references, dispatch, the standard methods. Imports only itself."""
