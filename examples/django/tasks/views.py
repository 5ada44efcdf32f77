"""The view."""

from django.http import HttpRequest, JsonResponse

from tasks.models import Task


def tasks(request: HttpRequest) -> JsonResponse:
    """Store the task of a POST; list all tasks, oldest first."""
    if request.method == "POST":
        Task.objects.create(body=request.POST["body"])
    return JsonResponse([task.body for task in Task.objects.order_by("id")], safe=False)
