"""The admin site: it opens, it changes, it respects rights."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse

from catalogue.models import Copy, Work
from tests.samples import a_copy, a_user, a_work

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "model",
    [
        *(f"catalogue_{name}" for name in ("author", "branch", "copy", "edition", "publisher", "shelf", "subject", "work")),
        *(f"circulation_{name}" for name in ("category", "closedday", "fine", "hold", "loan", "member")),
    ],
)
def test_each_list_opens(admin_client: Client, model: str) -> None:
    assert admin_client.get(reverse(f"admin:{model}_changelist")).status_code == 200


def test_works_are_found_by_title(admin_client: Client) -> None:
    a_work("Middlemarch")
    a_work("Romola")
    page = admin_client.get(reverse("admin:catalogue_work_changelist"), {"q": "rom"}).content.decode()
    assert "Romola" in page
    assert "Middlemarch" not in page


def test_a_work_is_added_with_its_author(admin_client: Client) -> None:
    admin_client.post(reverse("admin:catalogue_author_add"), {"name": "George Eliot", "born": 1819, "died": 1880})
    form = {
        "title": "Romola",
        "language": "en",
        "contributions-TOTAL_FORMS": 1,
        "contributions-INITIAL_FORMS": 0,
        "contributions-0-author": "",
        "contributions-0-role": "author",
        "contributions-0-position": "",
    }
    assert admin_client.post(reverse("admin:catalogue_work_add"), form).status_code == 302
    assert Work.objects.get().title_key == "romola"


@pytest.mark.parametrize(("state", "after"), [("available", "withdrawn"), ("on_loan", "on_loan"), ("lost", "lost")])
def test_only_what_is_on_the_shelf_is_withdrawn(admin_client: Client, state: str, after: str) -> None:
    copy = a_copy(state=state)
    admin_client.post(reverse("admin:catalogue_copy_changelist"), {"action": "withdraw", "_selected_action": [copy.pk]})
    assert Copy.objects.get(pk=copy.pk).state == after


def test_staff_without_rights_sees_nothing(client: Client) -> None:
    client.force_login(a_user(is_staff=True))
    assert client.get(reverse("admin:catalogue_work_changelist")).status_code == 403


def test_staff_with_a_right_sees_what_it_covers(client: Client) -> None:
    user = a_user(is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_work"))
    client.force_login(user)
    assert client.get(reverse("admin:catalogue_work_changelist")).status_code == 200
    assert client.get(reverse("admin:catalogue_copy_changelist")).status_code == 403
