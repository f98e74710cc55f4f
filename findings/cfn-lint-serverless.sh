#!/usr/bin/env bash
# cfn-lint passes values in AWS::Serverless::Function that it refuses in AWS::Lambda::Function
#
# Seen with cfn-lint 1.58.0.
# One would guess: a function's runtime, timeout and architecture are checked the same way in both types. cfn-lint does
# check a SAM function's memory, and its runtime against the list of deprecated ones.
# What happens: an unknown runtime, a timeout of 1,000 seconds (Lambda allows 900) and an unknown architecture pass.
# So does a `Ref` to a resource that does not exist, if its name begins with that of a SAM function: such names are
# taken for the resources that SAM makes. Linting the template that SAM renders finds all four.
#
# Output, shortened:
#   AWS::Lambda::Function:
#   E3030 'python9.9' is not one of ['dotnet10', 'dotnet6', 'dot
#   E3717 1000 is greater than the maximum of 900 for functions
#   E3030 'riscv' is not one of ['x86_64', 'arm64']
#   E1020 'WorkerQueue' is not one of ['Worker', 'AWS::AccountId
#   exit 2
#   AWS::Serverless::Function:
#   exit 0

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for python in "${PYTHON:-python3.13}" python3 ~/.pyenv/versions/3.13*/bin/python3; do
    "$python" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && break
done
"$python" -m venv venv && venv/bin/python -m pip install -qq cfn-lint==1.58.0 || exit 2

rest='
      Handler: app.handler
      Runtime: python9.9
      Timeout: 1000
      Architectures: [riscv]
      Environment:
        Variables:
          QUEUE: !Ref WorkerQueue'
cat >sam.yaml <<EOF
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Resources:
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: "def handler(event, context): pass"$rest
EOF
cat >plain.yaml <<EOF
AWSTemplateFormatVersion: "2010-09-09"
Resources:
  Worker:
    Type: AWS::Lambda::Function
    Properties:
      Role: arn:aws:iam::123456789012:role/worker
      Code:
        ZipFile: "def handler(event, context): pass"$rest
EOF
lint() {
    status=0
    env -i HOME="$work" venv/bin/cfn-lint --regions eu-west-1 --include-checks I -- "$1" >"$1.out" || status=$?
    grep -E '^[EWI][0-9]' "$1.out" | cut -c 1-60 || true
    echo "exit $status"
}
echo AWS::Lambda::Function:
lint plain.yaml
echo AWS::Serverless::Function:
lint sam.yaml
[ "$status" = 0 ] || exit 1
[ ! -s sam.yaml.out ] || exit 1
for value in python9.9 1000 riscv WorkerQueue; do
    grep -q "^E.*$value" plain.yaml.out || exit 1
done
