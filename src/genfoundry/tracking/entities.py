"""Types of MLflow's objects for annotations, without importing MLflow."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["LoggedModel", "ModelVersion", "Run"]
