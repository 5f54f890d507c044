"""URLs of sign-in, sign-out and password change."""

from django.urls import path

from channelbox.accounts import views

app_name = "accounts"

urlpatterns = [
    path("login/", views.SignIn.as_view(), name="login"),
    path("password/", views.ChangePassword.as_view(), name="password"),
    path("password/changed/", views.PasswordChanged.as_view(), name="password-changed"),
    path("logout/", views.SignOut.as_view(), name="logout"),
]
