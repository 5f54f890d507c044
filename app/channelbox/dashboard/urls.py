"""URLs of the dashboard."""

from django.urls import path

from channelbox.dashboard import views

app_name = "dashboard"

urlpatterns = [path("", views.live, name="live")]
