"""The keys that the fake API of the contract tests knows."""

V1_KEY = "apk_user_fake-0123456789"
V3_KEY = "cog_fake-0123456789"
