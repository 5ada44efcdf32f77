"""The URLs."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

import catalogue.views
import circulation.views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("works/", catalogue.views.works, name="works"),
    path("editions/<str:isbn>/", catalogue.views.edition, name="edition"),
    path("works/<int:work>/hold/", circulation.views.hold, name="hold"),
    path("desk/lend/", circulation.views.lend, name="lend"),
    path("desk/return/", circulation.views.give_back, name="return"),
    path("me/", circulation.views.mine, name="mine"),
]
