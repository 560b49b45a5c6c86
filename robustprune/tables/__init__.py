"""Tables of tickets: every one trained and measured, so that any criterion can be judged against all others."""
