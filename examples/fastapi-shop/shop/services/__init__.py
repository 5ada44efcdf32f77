"""What the shop does: functions over a session, free of HTTP. Each commits what it has done."""
