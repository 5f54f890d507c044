from django.apps import AppConfig


class ChatConfig(AppConfig):
    name = "channelbox.chat"

    def ready(self) -> None:
        from channelbox.accounts import revocation
        from channelbox.chat import cleanup  # noqa: F401 - connects its signal receiver
        from channelbox.chat.revocation import rooms

        revocation.rules.append(rooms)
