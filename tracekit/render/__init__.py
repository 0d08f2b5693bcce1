"""Rendering: data in, text out. Nothing here touches a path but `files`."""
