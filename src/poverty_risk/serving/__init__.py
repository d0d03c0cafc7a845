"""What MLflow runs when it serves a registered model (`pyfunc_model`); nothing imports it."""
