"""Staff sign in with a browser, on the staff origin: OpenID Connect's code flow with PKCE, and the session after it."""
