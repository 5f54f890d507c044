from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "channelbox.accounts"

    def ready(self) -> None:
        from django.contrib import admin

        from channelbox import checks  # noqa: F401 - registers them
        from channelbox.accounts import signals  # noqa: F401 - connects them
        from channelbox.accounts.views import admin_password_change, admin_sign_in

        admin.site.login = admin_sign_in  # type: ignore[method-assign]
        admin.site.password_change = admin_password_change  # type: ignore[method-assign,assignment]
