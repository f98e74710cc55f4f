#!/usr/bin/env bash
# checkov leaves out five checks of an IAM role that has one conditional statement
#
# Seen with checkov 3.3.30.
# One would guess: `Fn::If` around one statement of a policy leaves the other statements checked, or gives an error.
# What happens: CKV_AWS_107 to CKV_AWS_111 (exposed credentials, data exfiltration, privilege escalation, unconstrained
# writes) neither pass nor fail for that role: it is missing from the report. The same role without the harmless
# conditional statement fails three of them. Standard error and `parsing_errors` show nothing. So a template
# has to be scanned with its conditions resolved.
#
# Output:
#   Always: failed CKV_AWS_108 CKV_AWS_109 CKV_AWS_110, passed CKV_AWS_107 CKV_AWS_111
#   Sometimes: failed none, passed none
#   parsing errors: none

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq checkov==3.3.30 || exit 2

cat >template.yaml <<'EOF'
AWSTemplateFormatVersion: "2010-09-09"
Parameters:
  Notify: {Type: String, Default: "no"}
Conditions:
  Notified: !Equals [!Ref Notify, "yes"]
Resources:
  Always:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}
      Policies:
        - PolicyName: work
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - {Effect: Allow, Action: ["iam:PutUserPolicy", "s3:GetObject"], Resource: "*"}
  Sometimes:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: "sts:AssumeRole"}
      Policies:
        - PolicyName: work
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - {Effect: Allow, Action: ["iam:PutUserPolicy", "s3:GetObject"], Resource: "*"}
              - !If
                - Notified
                - Effect: Allow
                  Action: sqs:SendMessage
                  Resource: !Sub "arn:${AWS::Partition}:sqs:eu-west-1:123456789012:queue"
                - !Ref AWS::NoValue
EOF
env -i HOME="$work" PATH="$PATH" venv/bin/checkov --framework cloudformation --skip-download --soft-fail --output json \
    --check CKV_AWS_107,CKV_AWS_108,CKV_AWS_109,CKV_AWS_110,CKV_AWS_111 --file template.yaml >report.json
venv/bin/python - <<'EOF'
import json

with open("report.json") as file:
    results = json.load(file)["results"]
seen = {}
for role in ("Always", "Sometimes"):
    failed, passed = (
        [found["check_id"] for found in results[kind] if found["resource"] == f"AWS::IAM::Role.{role}"]
        for kind in ("failed_checks", "passed_checks")
    )
    seen[role] = (sorted(failed), sorted(passed))
    print(f"{role}: failed {' '.join(seen[role][0]) or 'none'}, passed {' '.join(seen[role][1]) or 'none'}")
print("parsing errors:", *results["parsing_errors"] or ["none"])
assert sum(map(len, seen["Always"])) == 5 and len(seen["Always"][0]) == 3
assert seen["Sometimes"] == ([], []) and not results["parsing_errors"]
EOF
