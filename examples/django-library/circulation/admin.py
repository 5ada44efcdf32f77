"""Members and loans for clerks."""

from __future__ import annotations

from django.contrib import admin

from circulation.models import Category, ClosedDay, Fine, Hold, Loan, Member

admin.site.register([Category, ClosedDay, Fine, Hold, Loan, Member])
