#!/bin/sh
# Copyright: mlops.mlflow_runbook contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# The read-only commands of the two runbooks, in their order, one after the other, as a person types them. Where the
# MLflow image has no curl, psql or aws, its Python does the same.
set -u

probe() {  # namespace, name, command...: a one-shot pod, as `kubectl run -it --rm`
  namespace=$1 name=$2
  shift 2
  kubectl run -i --rm "$name" -n "$namespace" --image="$IMAGE" --restart=Never --quiet \
    --overrides="${OVERRIDES:-}" --command -- "$@"
}

# MLflow Connection Issues, Diagnostic Steps
kubectl get pods -n "$NAMESPACE"                                                                            # 1
kubectl describe pod -n "$NAMESPACE" -l "$SELECTOR"                                                         # 2
kubectl get svc -n "$NAMESPACE"                                                                             # 3
kubectl describe svc "$SERVICE" -n "$NAMESPACE"                                                             # 4
probe "$NAMESPACE" debug python3 -c "$HEALTH"                                                               # 5
kubectl logs -n "$NAMESPACE" -l "$SELECTOR" --tail=200                                                      # 6
aws rds describe-db-instances --db-instance-identifier "$INSTANCE" \
  --query 'DBInstances[0].{Status:DBInstanceStatus,Endpoint:Endpoint.Address}'                              # 7
aws s3 ls "s3://$BUCKET/"                                                                                   # 8
kubectl exec -n "$NAMESPACE" "deployment/$DEPLOYMENT" -- python3 -c "$LIST_BUCKET"                          # 9

# Resolution Steps, as far as they only look
kubectl describe pod -n "$NAMESPACE" -l "$SELECTOR" | grep -A10 'Limits\|Requests'                          # 10
kubectl get secret -n "$NAMESPACE" "$SECRET" -o yaml                                                        # 11
OVERRIDES=$QUERY_POD probe "$NAMESPACE" psql python3                                                        # 12
aws ec2 describe-security-groups --group-ids "$SECURITY_GROUP" --query 'SecurityGroups[0].IpPermissions'    # 13
kubectl get sa -n "$NAMESPACE" "$SERVICE_ACCOUNT" -o yaml | grep -A5 annotations                            # 14
aws iam get-role-policy --role-name "$ROLE" --policy-name mlflow-s3                                         # 15
kubectl exec -n "$NAMESPACE" "deployment/$DEPLOYMENT" -- python3 -c "$CALLER"                               # 16
kubectl top pods -n "$NAMESPACE"                                                                            # 17
kubectl get networkpolicies -n "$NAMESPACE"                                                                 # 18
kubectl describe networkpolicy -n "$NAMESPACE"                                                              # 19
probe "$SOURCE" debug python3 -c "$HEALTH"                                                                  # 20

# MLflow Dashboard: what the first runbook does not ask
kubectl get ingress -n "$NAMESPACE"                                                                         # 21
