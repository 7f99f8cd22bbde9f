module mlops.mlflow_runbook/lab/pause

go 1.24.0
