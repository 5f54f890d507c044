"""There are no pages, as only WebSockets are measured."""

urlpatterns: list[object] = []
