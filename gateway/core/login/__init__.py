"""Who may come in: accounts, keys, passwords, limits, and what a wrong password costs.

Here: authentication and its records. Not here: what an account sees (`gateway.core.views`) or may ask for
(`gateway.core.admin`).

    login = Login(logins)  # of one connection
    outcome = await login.attempt(AuthenticatePassword("acme", "…"))
"""
