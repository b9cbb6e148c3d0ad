"""Types of MLflow's objects, for the annotations of whoever looks at a store: nothing of MLflow is imported."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["LoggedModel", "ModelVersion", "Run"]
