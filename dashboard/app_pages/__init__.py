"""One script a page, run by `dashboard/app.py`; what they draw is in modules beside this folder."""
