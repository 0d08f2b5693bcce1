"""The parts of check_prediction_gpu.py: the configurations, what was found of them, and the page."""
