"""The pages: a module each, with the routes of its page and of its forms."""
