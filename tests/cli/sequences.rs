//! Sequences of commands as scripts of `az ml` have them, of each generation, run to their end under the name `az` by a shell that stops
//! at the first command which fails. Two more stand among the habits of `az`.

use std::fs;

use crate::az::played;
use crate::support::{Place, Server, repository};

/// A script that says which files its model has, and what it was asked.
const SCRIPT: &str = "\
import json
import os


def init():
    print('init of the script')
    global files
    folder = os.environ['AZUREML_MODEL_DIR']
    files = sorted(name for _, _, names in os.walk(folder, followlinks=True) for name in names)


def run(data):
    return {'files': files, 'asked': json.loads(data)}
";

/// What an environment asks for that needs no package.
const CONDA: &str = "name: model-env\nchannels: [conda-forge]\ndependencies:\n  - python>=3.8\n";

/// A working folder with the files of a repository of examples: two models, two scripts, a request.
fn examples() -> (Place, Server) {
    let place = Place::new();
    let server = place.serve();
    for (at, model) in [("model-1", "1"), ("model-2", "2")] {
        let bytes = fs::read(repository("models/digits").join(model).join("model.onnx"));
        place.write(
            &format!("endpoints/online/{at}/model/model.onnx"),
            bytes.expect("a model"),
        );
        place.write(
            &format!("endpoints/online/{at}/onlinescoring/score.py"),
            SCRIPT,
        );
        place.write(
            &format!("endpoints/online/{at}/environment/conda.yml"),
            CONDA,
        );
    }
    let sample = fs::read(repository("models/digits/1/sample-request.json"));
    place.write(
        "endpoints/online/model-1/sample-request.json",
        sample.expect("a request"),
    );
    (place, server)
}

/// A deployment of today's form, of a model that is scored natively.
fn of_today(name: &str, model: &str, more: &str) -> String {
    format!(
        "$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json\n\
         name: {name}\nendpoint_name: my-endpoint\nmodel:\n  path: ../../{model}/model/\n\
         instance_type: Standard_DS3_v2\ninstance_count: 1\n{more}"
    )
}

#[test]
fn the_first_form_is_rolled_out_step_by_step() {
    let (place, _server) = examples();
    place.write(
        "configs/1-create.yaml",
        "$schema: http://azureml/sdk-2-0/OnlineEndpoint.json\nname: myEndpoint\ntype: OnlineEndpoint\nauth_mode: aml_token\n",
    );
    for (file, name, model, count) in [("2-blue", "blue", "m1", 3), ("3-green", "green", "m2", 2)] {
        place.write(
            &format!("configs/{file}.yaml"),
            format!(
                "$schema: http://azureml/sdk-2-0/OnlineDeployment.json\nname: {name}\nmodel: aml:models/{model}:1\n\
                 sku: Standard_FS4_v2\nscale:\n  scale_type: manual\n  instance_count: {count}\n  min_instances: 1\n  max_instances: 5\n\
                 request:\n  request_timeout_ms: 3000\n  max_concurrent_requests_per_instance: 1\n"
            ),
        );
    }
    played(
        &place,
        r#"
az ml model create --name m1 --version 1 --path endpoints/online/model-1/model
az ml model create --name m2 --version 1 --path endpoints/online/model-2/model
az ml endpoint create --file configs/1-create.yaml
az ml endpoint show --name myEndpoint
az ml endpoint update --name myEndpoint --deployment blue --deployment-file configs/2-blue.yaml
az ml endpoint update --name myEndpoint --traffic 'blue:100'
az ml endpoint invoke --name myEndpoint --request-file endpoints/online/model-1/sample-request.json
az ml endpoint update --name myEndpoint --deployment blue --instance-count 2
az ml endpoint update --name myEndpoint --set deployments.blue.scale.instance_count=3
az ml endpoint update --name myEndpoint --deployment green --deployment-file configs/3-green.yaml
az ml endpoint invoke --name myEndpoint --deployment green --request-file endpoints/online/model-1/sample-request.json
az ml endpoint update --name myEndpoint --traffic 'blue:90,green:10'
az ml endpoint get-logs --name myEndpoint --deployment green --lines 100
az ml endpoint update --name myEndpoint --traffic 'blue:0,green:100'
az ml endpoint delete --deployment blue
az ml endpoint delete --name myEndpoint
[[ $(az ml endpoint list --query "length(@)") == 0 ]]
"#,
    );
}

#[test]
fn the_first_form_is_rolled_out_by_whole_files() {
    let (place, _server) = examples();
    let blue = |count: u32| {
        format!(
            "  blue:\n    model: aml:models/m1:1\n    sku: Standard_FS4_v2\n    scale: {{scale_type: manual, instance_count: {count}}}\n"
        )
    };
    let green = "  green:\n    model: aml:models/m2:1\n    sku: Standard_FS4_v2\n    scale: {scale_type: manual, instance_count: 1}\n";
    let head = "$schema: http://azureml/sdk-2-0/OnlineEndpoint.json\nname: myEndpoint\ntype: OnlineEndpoint\nauth_mode: aml_token\n";
    for (step, traffic, deployments) in [
        (1, "{blue: 100}", blue(1)),
        (2, "{blue: 100}", blue(2)),
        (3, "{blue: 100, green: 0}", blue(2) + green),
        (4, "{blue: 90, green: 10}", blue(2) + green),
        (5, "{blue: 0, green: 100}", blue(2) + green),
        (6, "{green: 100}", green.to_owned()),
    ] {
        place.write(
            &format!("configs/{step}.yaml"),
            format!("{head}traffic: {traffic}\ndeployments:\n{deployments}"),
        );
    }
    played(
        &place,
        r#"
az ml model create --name m1 --version 1 --path endpoints/online/model-1/model
az ml model create --name m2 --version 1 --path endpoints/online/model-2/model
az ml endpoint create --file configs/1.yaml
for step in 2 3 4 5; do
  az ml endpoint update --file configs/$step.yaml
  az ml endpoint invoke --name myEndpoint --request-file endpoints/online/model-1/sample-request.json
done
[[ $(az ml endpoint show -n myEndpoint --query "traffic.green") == 100 ]]
az ml endpoint update --file configs/6.yaml
[[ $(az ml endpoint show -n myEndpoint --query "length(deployments)") == 1 ]]
[[ $(az ml endpoint show -n myEndpoint --query "deployments[0].name" -o tsv) == green ]]
az ml endpoint delete --name myEndpoint --yes
"#,
    );
}

#[test]
fn the_public_preview_is_rolled_out_step_by_step_with_a_script() {
    let (place, _server) = examples();
    let deployment = |name: &str, model: &str| {
        format!(
            "name: {name}
    model:
      name: {model}
      version: 1
      local_path: ../../{model}/model/model.onnx
    code_configuration:
      code:
        local_path: ../../{model}/onlinescoring/
      scoring_script: score.py
    environment:
      name: env-{model}
      version: 1
      path: .
      conda_file: file:../../{model}/environment/conda.yml
      docker:
        image: mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu18.04:20210301.v1
    instance_type: Standard_F2s_v2
    scale_settings:
      scale_type: manual
      instance_count: 1
      min_instances: 1
      max_instances: 2
"
        )
    };
    let folder = "endpoints/online/managed/saferollout";
    place.write(
        &format!("{folder}/endpoint.yml"),
        format!(
            "name: my-endpoint\ntype: online\nauth_mode: key\ntraffic:\n  blue: 100\ndeployments:\n  - {}",
            deployment("blue", "model-1")
        ),
    );
    place.write(
        &format!("{folder}/green.yml"),
        deployment("green", "model-2").replace("\n    ", "\n"),
    );
    let (printed, _) = played(
        &place,
        r#"
export ENDPOINT_NAME=my-endpoint
az ml endpoint create -n $ENDPOINT_NAME -f endpoints/online/managed/saferollout/endpoint.yml
az ml endpoint show -n $ENDPOINT_NAME
endpoint_status=`az ml endpoint show --name $ENDPOINT_NAME --query "provisioning_state" -o tsv`
[[ $endpoint_status == "Succeeded" ]]
deploy_status=`az ml endpoint show --name $ENDPOINT_NAME --query "deployments[?name=='blue'].provisioning_state" -o tsv`
[[ $deploy_status == "Succeeded" ]]
az ml endpoint get-logs -n $ENDPOINT_NAME --deployment blue --container storage-initializer
az ml endpoint invoke --name $ENDPOINT_NAME --request-file endpoints/online/model-1/sample-request.json
ENDPOINT_KEY=$(az ml endpoint get-credentials -n $ENDPOINT_NAME -o tsv --query primaryKey)
[[ $(az ml endpoint list-keys -n $ENDPOINT_NAME -o tsv --query primaryKey) == $ENDPOINT_KEY ]]
az ml endpoint update -n $ENDPOINT_NAME --set deployments[0].scale_settings.instance_count=2
[[ $(az ml endpoint show -n $ENDPOINT_NAME --query "deployments[0].instance_count") == 2 ]]
az ml endpoint update -n $ENDPOINT_NAME --deployment-file endpoints/online/managed/saferollout/green.yml --traffic "blue:100,green:0"
az ml endpoint invoke -n $ENDPOINT_NAME --deployment green --request-file endpoints/online/model-1/sample-request.json
az ml endpoint update -n $ENDPOINT_NAME --traffic "blue:90,green:10"
az ml endpoint update -n $ENDPOINT_NAME --traffic "blue:0,green:100"
az ml endpoint get-logs -n $ENDPOINT_NAME --deployment green
az ml endpoint delete -n $ENDPOINT_NAME --deployment blue --yes
az ml endpoint delete -n $ENDPOINT_NAME --yes --no-wait
"#,
    );
    assert!(printed.contains("script: init of the script"), "{printed}");
}

#[test]
fn the_public_preview_is_rolled_out_by_a_whole_file_that_is_edited() {
    let (place, _server) = examples();
    let deployment = |name: &str, model: &str| {
        format!(
            "  - name: {name}\n    model: {{name: {model}, version: 1, local_path: ./endpoints/online/{model}/model/model.onnx}}\n\
             \x20   instance_type: Standard_F2s_v2\n    scale_settings: {{scale_type: manual, instance_count: 1, min_instances: 1, max_instances: 2}}\n"
        )
    };
    let head = "name: my-endpoint\ntype: online\nauth_mode: aml_token\n";
    place.write(
        "blue.yml",
        format!(
            "{head}traffic:\n  blue: 100\ndeployments:\n{}",
            deployment("blue", "model-1")
        ),
    );
    place.write(
        "both.yml",
        format!(
            "{head}traffic:\n  blue: 100\n  green: 0\ndeployments:\n{}{}",
            deployment("blue", "model-1"),
            deployment("green", "model-2")
        ),
    );
    played(
        &place,
        r#"
az ml endpoint create -f blue.yml --name my-endpoint
az ml endpoint update -f both.yml -n my-endpoint
sed -e 's/blue: 100/blue: 90/' -e 's/green: 0/green: 10/' both.yml > canary.yml
az ml endpoint update -n my-endpoint -f canary.yml
[[ $(az ml endpoint show -n my-endpoint --query traffic.green) == 10 ]]
TOKEN=$(az ml endpoint get-credentials -n my-endpoint --query accessToken -o tsv)
[[ -n $TOKEN ]]
az ml endpoint invoke -n my-endpoint --request-file endpoints/online/model-1/sample-request.json
sed -e 's/blue: 90/blue: 0/' -e 's/green: 10/green: 100/' canary.yml > green.yml
az ml endpoint update -n my-endpoint -f green.yml
az ml endpoint delete -n my-endpoint -y
az ml model delete -n model-1 --version 1
az ml model delete -n model-2 -v 1
"#,
    );
}

#[test]
fn the_refreshed_preview_is_rolled_out_step_by_step() {
    let (place, _server) = examples();
    let folder = "endpoints/online/managed/saferollout";
    place.write(
        &format!("{folder}/endpoint.yml"),
        "$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json\nname: my-endpoint\nauth_mode: key\n",
    );
    for (name, model) in [("blue", "model-1"), ("green", "model-2")] {
        place.write(
            &format!("{folder}/{name}-deployment.yml"),
            format!(
                "$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineDeployment.schema.json\nname: {name}\n\
                 endpoint_name: my-endpoint\nmodel:\n  local_path: ../../{model}/model/\n  model_format: Custom\n\
                 environment:\n  conda_file: ../../{model}/environment/conda.yml\n  image: mcr.microsoft.com/azureml/openmpi3.1.2-ubuntu18.04:20210727.v1\n\
                 instance_type: Standard_F2s_v2\ninstance_count: 1\nscale_settings:\n  type: default\n\
                 liveness_probe: {{initial_delay: 10, period: 10, timeout: 2, success_threshold: 1, failure_threshold: 30}}\n"
            ),
        );
    }
    played(
        &place,
        r#"
export ENDPOINT_NAME=my-endpoint
az ml online-endpoint create --name $ENDPOINT_NAME -f endpoints/online/managed/saferollout/endpoint.yml
az ml online-deployment create --name blue --endpoint $ENDPOINT_NAME -f endpoints/online/managed/saferollout/blue-deployment.yml --all-traffic
az ml online-deployment show --name blue --endpoint $ENDPOINT_NAME
az ml online-endpoint invoke --name $ENDPOINT_NAME --request-file endpoints/online/model-1/sample-request.json
az ml online-deployment update --name blue --endpoint $ENDPOINT_NAME --set instance_count=2
az ml online-deployment create --name green --endpoint $ENDPOINT_NAME -f endpoints/online/managed/saferollout/green-deployment.yml
az ml online-endpoint invoke --name $ENDPOINT_NAME --deployment green --request-file endpoints/online/model-1/sample-request.json
az ml online-endpoint update --name $ENDPOINT_NAME --traffic "blue=90 green=10"
az ml online-endpoint update --name $ENDPOINT_NAME --traffic "blue=0 green=100"
az ml online-deployment get-logs --name green --endpoint $ENDPOINT_NAME
az ml online-deployment delete --name blue --endpoint $ENDPOINT_NAME --yes --no-wait
az ml online-endpoint delete --name $ENDPOINT_NAME --yes --no-wait
"#,
    );
}

#[test]
fn the_form_of_today_is_rolled_out_by_files_that_are_edited() {
    let (place, _server) = examples();
    let folder = "endpoints/online/managed/saferollout";
    place.write(
        &format!("{folder}/endpoint.yml"),
        "$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json\nname: my-endpoint\nauth_mode: key\ntags: {team: ml}\n",
    );
    place.write(
        &format!("{folder}/blue.yml"),
        of_today("blue", "model-1", ""),
    );
    place.write(
        &format!("{folder}/green.yml"),
        of_today("green", "model-2", ""),
    );
    played(
        &place,
        r#"
cd endpoints/online/managed/saferollout
az ml online-endpoint create -f endpoint.yml
az ml online-deployment create -f blue.yml
[[ $(az ml online-deployment show -n blue -e my-endpoint -o json) != *../* ]]
printf 'traffic:\n  blue: 100\n' >> endpoint.yml
az ml online-endpoint update -f endpoint.yml
sed -i 's/instance_count: 1/instance_count: 2/' blue.yml
az ml online-deployment update -f blue.yml
[[ $(az ml online-deployment show -n blue -e my-endpoint --query instance_count) == 2 ]]
az ml online-deployment create -f green.yml
az ml online-endpoint invoke -n my-endpoint -d green -r ../../model-1/sample-request.json
az ml online-endpoint invoke -n my-endpoint --deployment-name green --request-file ../../model-1/sample-request.json
sed -i 's/  blue: 100/  blue: 90\n  green: 10/' endpoint.yml
az ml online-endpoint update -f endpoint.yml
[[ $(az ml online-endpoint show -n my-endpoint --query traffic.green) == 10 ]]
[[ $(az ml online-endpoint show -n my-endpoint --query tags.team -o tsv) == ml ]]
sed -i -e 's/blue: 90/blue: 0/' -e 's/green: 10/green: 100/' endpoint.yml
az ml online-endpoint update -f endpoint.yml
az ml online-deployment delete -n blue -e my-endpoint -y
az ml online-endpoint delete -n my-endpoint -y
"#,
    );
}

#[test]
fn local_mode_runs_as_it_does_with_containers() {
    let (place, _server) = examples();
    let folder = "endpoints/online/managed/sample";
    place.write(
        &format!("{folder}/endpoint.yml"),
        "name: my-endpoint\nauth_mode: key\n",
    );
    place.write(
        &format!("{folder}/blue-deployment.yml"),
        of_today(
            "blue",
            "model-1",
            "code_configuration:\n  code: ../../model-1/onlinescoring/\n  scoring_script: score.py\n\
             environment:\n  conda_file: ../../model-1/environment/conda.yml\n  image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04:latest\n",
        ),
    );
    let (printed, _) = played(
        &place,
        r#"
set -e
export ENDPOINT_NAME=my-endpoint
az ml online-endpoint create --local -n $ENDPOINT_NAME -f endpoints/online/managed/sample/endpoint.yml
az ml online-deployment create --local -n blue --endpoint $ENDPOINT_NAME -f endpoints/online/managed/sample/blue-deployment.yml
az ml online-endpoint show -n $ENDPOINT_NAME --local
endpoint_status=`az ml online-endpoint show --local --name $ENDPOINT_NAME --query "provisioning_state" -o tsv`
[[ $endpoint_status == "Succeeded" ]]
deploy_status=`az ml online-deployment show --local --name blue --endpoint $ENDPOINT_NAME --query "provisioning_state" -o tsv`
[[ $deploy_status == "Succeeded" ]]
az ml online-endpoint invoke --local --name $ENDPOINT_NAME --request-file endpoints/online/model-1/sample-request.json
az ml online-deployment get-logs --local -n blue --endpoint $ENDPOINT_NAME
SCORING_URI=$(az ml online-endpoint show --local -n $ENDPOINT_NAME -o tsv --query "scoring_uri")
[[ $SCORING_URI == http://127.0.0.1:*/score ]]
az ml online-deployment update --local -n blue -e $ENDPOINT_NAME --set environment_variables.A=1
az ml online-deployment list --local -e $ENDPOINT_NAME -o table
az ml online-endpoint list --local
az ml online-endpoint delete --local --name $ENDPOINT_NAME --yes
"#,
    );
    assert!(printed.contains("script: init of the script"), "{printed}");
}

#[test]
fn an_endpoint_of_one_model_is_made_asked_scaled_and_deleted() {
    let (place, _server) = examples();
    let folder = "endpoints/online/managed/sample";
    place.write(
        &format!("{folder}/endpoint.yml"),
        "$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json\nname: an-endpoint\nauth_mode: key\n",
    );
    place.write(
        &format!("{folder}/blue-deployment.yml"),
        of_today("blue", "model-1", ""),
    );
    let (printed, said) = played(
        &place,
        r#"
export ENDPOINT_NAME=endpt-`echo $RANDOM`
az config set defaults.group=my-group defaults.workspace=my-workspace
az ml online-endpoint create --name $ENDPOINT_NAME -f endpoints/online/managed/sample/endpoint.yml
az ml online-deployment create --name blue --endpoint $ENDPOINT_NAME -f endpoints/online/managed/sample/blue-deployment.yml --all-traffic
az ml online-endpoint show -n $ENDPOINT_NAME
az ml online-endpoint show --name $ENDPOINT_NAME -o jsonc
az ml online-endpoint list --output table
az ml online-endpoint list --query "[*].{Name:name,State:provisioning_state}" --output table
az ml online-deployment get-logs --name blue --endpoint $ENDPOINT_NAME
az ml online-deployment get-logs -n blue -e $ENDPOINT_NAME -l 100 -c inference-server
az ml online-endpoint invoke --name $ENDPOINT_NAME --request-file endpoints/online/model-1/sample-request.json
ENDPOINT_KEY=$(az ml online-endpoint get-credentials -n $ENDPOINT_NAME -o tsv --query primaryKey)
SCORING_URI=$(az ml online-endpoint show -n $ENDPOINT_NAME -o tsv --query scoring_uri)
az ml online-endpoint regenerate-keys -n $ENDPOINT_NAME --key-type Secondary
[[ $(az ml online-endpoint get-credentials -n $ENDPOINT_NAME -o tsv --query primaryKey) == $ENDPOINT_KEY ]]
az ml online-deployment update -n blue -e $ENDPOINT_NAME --set instance_count=2 --only-show-errors
az ml online-deployment show -n blue -e $ENDPOINT_NAME --query "{count:instance_count,type:instance_type}" -o yaml
az ml online-deployment update -n blue -e $ENDPOINT_NAME -f endpoints/online/managed/sample/blue-deployment.yml
az ml online-endpoint update -n $ENDPOINT_NAME --set tags.stage=test description="one model"
az ml online-endpoint delete --name $ENDPOINT_NAME --yes --no-wait
"#,
    );
    assert!(printed.contains("count: 2"), "{printed}");
    assert!(
        said.contains("instance_count: 2 -> 1") && !said.contains("instance_count: 1 -> 2"),
        "with --only-show-errors nothing is told\n{said}"
    );
}

#[test]
fn a_deployment_is_put_under_autoscaling_and_taken_out_again() {
    let (place, _server) = examples();
    let folder = "endpoints/online/managed/sample";
    place.write(
        &format!("{folder}/endpoint.yml"),
        "name: my-endpoint\nauth_mode: key\n",
    );
    place.write(
        &format!("{folder}/blue-deployment.yml"),
        of_today("blue", "model-1", ""),
    );
    let (_, said) = played(
        &place,
        r#"
ENDPOINT_NAME=my-endpoint
DEPLOYMENT_NAME=blue
az ml online-endpoint create -n $ENDPOINT_NAME -f endpoints/online/managed/sample/endpoint.yml
az ml online-deployment create -n $DEPLOYMENT_NAME -e $ENDPOINT_NAME -f endpoints/online/managed/sample/blue-deployment.yml --all-traffic
AUTOSCALE_SETTINGS_NAME=autoscale-$ENDPOINT_NAME-$DEPLOYMENT_NAME-settings
DEPLOYMENT_RESOURCE_ID=$(az ml online-deployment show -e $ENDPOINT_NAME -n $DEPLOYMENT_NAME -o tsv --query "id")
ENDPOINT_RESOURCE_ID=$(az ml online-endpoint show -n $ENDPOINT_NAME -o tsv --query "properties.\"azureml.onlineendpointid\"")
[[ $DEPLOYMENT_RESOURCE_ID == $ENDPOINT_RESOURCE_ID/deployments/blue ]]
az monitor autoscale create --name $AUTOSCALE_SETTINGS_NAME --resource $DEPLOYMENT_RESOURCE_ID --min-count 2 --max-count 5 --count 2
az monitor autoscale rule create --autoscale-name $AUTOSCALE_SETTINGS_NAME --condition "CpuUtilizationPercentage > 70 avg 5m" --scale out 2
az monitor autoscale rule create --autoscale-name $AUTOSCALE_SETTINGS_NAME --condition "CpuUtilizationPercentage < 25 avg 5m" --scale in 1
az monitor autoscale rule create --autoscale-name $AUTOSCALE_SETTINGS_NAME --condition "RequestLatency > 70 avg 5m" --scale out 1 --resource $ENDPOINT_RESOURCE_ID
az monitor autoscale profile create --name weekend-profile --autoscale-name $AUTOSCALE_SETTINGS_NAME --min-count 2 --count 2 --max-count 2 --recurrence week sat sun --timezone "Pacific Standard Time"
az monitor autoscale update --autoscale-name $AUTOSCALE_SETTINGS_NAME --enabled false
az monitor autoscale delete -n $AUTOSCALE_SETTINGS_NAME
az ml online-endpoint delete -n $ENDPOINT_NAME -y
"#,
    );
    assert!(
        said.contains("note: `az monitor autoscale rule create` does nothing here"),
        "{said}"
    );
}

#[test]
fn the_schema_of_an_endpoint_is_fetched_where_openapi_uri_points() {
    let (place, _server) = examples();
    let folder = "endpoints/online/managed/inference-schema";
    place.write(
        &format!("{folder}/endpoint.yml"),
        "$schema: https://azuremlschemas.azureedge.net/latest/managedOnlineEndpoint.schema.json\nname: my-endpoint\nauth_mode: key\n",
    );
    place.write(
        &format!("{folder}/deployment.yml"),
        "name: infsrv\nmodel:\n  path: ../../model-1/model\nendpoint_name: <ENDPOINT_NAME>\ninstance_type: Standard_DS3_v2\ninstance_count: 1\n",
    );
    played(
        &place,
        r#"
BASE_PATH=endpoints/online/managed/inference-schema
ENDPOINT_NAME=endpt-infsch
az ml online-endpoint create -f $BASE_PATH/endpoint.yml -n $ENDPOINT_NAME
az ml online-deployment create -f $BASE_PATH/deployment.yml --set endpoint_name=$ENDPOINT_NAME --all-traffic
OPENAPI_URI=$(az ml online-endpoint show -n $ENDPOINT_NAME --query openapi_uri -o tsv)
ENDPOINT_KEY=$(az ml online-endpoint get-credentials -n $ENDPOINT_NAME -o tsv --query primaryKey)
HOST=${OPENAPI_URI#http://}; PAGE=/${HOST#*/}; HOST=${HOST%%/*}
exec 3<>/dev/tcp/${HOST%:*}/${HOST#*:}
printf 'GET %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\nauthorization: Bearer %s\r\n\r\n' $PAGE $HOST $ENDPOINT_KEY >&3
cat <&3 > swagger.txt
grep -q '"openapi":"3' swagger.txt
grep -q ServiceInput swagger.txt
az ml online-endpoint invoke -n $ENDPOINT_NAME --request-file endpoints/online/model-1/sample-request.json
az ml online-endpoint delete -n $ENDPOINT_NAME -y
"#,
    );
}

#[test]
fn a_deployment_reads_what_an_identity_may_read() {
    let (place, _server) = examples();
    place.write(
        "managed/endpoint.yml",
        "name: my-endpoint\nauth_mode: key\nidentity:\n  type: user_assigned\n  user_assigned_identities:\n    - resource_id: user_identity_ARM_id_place_holder\n",
    );
    place.write(
        "managed/deployment.yml",
        "name: blue\nendpoint_name: my-endpoint\nmodel:\n  path: ../endpoints/online/model-1/model/\n\
         environment_variables:\n  STORAGE_ACCOUNT_NAME: storage_place_holder\n  STORAGE_CONTAINER_NAME: container_place_holder\n  FILE_NAME: file_place_holder\n\
         instance_type: Standard_DS3_v2\ninstance_count: 1\n",
    );
    played(
        &place,
        r#"
export UAI_NAME=uai$RANDOM
export WORKSPACE_NAME=my-workspace
az ml workspace create -n $WORKSPACE_NAME -g my-group
export LOCATION=$(az ml workspace show --query location -o tsv)
export STORAGE_ID=$(az ml workspace show -n $WORKSPACE_NAME --query storage_account -o tsv)
az identity create --name $UAI_NAME
export UAI_ID=$(az identity list --query "[?name=='$UAI_NAME'].id" -o tsv)
az storage account create --name acc --location $LOCATION
az storage container create --account-name acc --name cont
az storage blob upload --account-name acc --container-name cont --name hello.txt --file managed/endpoint.yml
az role assignment create --assignee-object-id $UAI_NAME --assignee-principal-type ServicePrincipal --role "Storage Blob Data Reader" --scope x
az ml online-endpoint create --name my-endpoint -f managed/endpoint.yml --set identity.user_assigned_identities[0].resource_id=some-id
system_identity=`az ml online-endpoint show --name my-endpoint --query "identity.principal_id" -o tsv`
[[ -n $system_identity ]]
az ml online-deployment create --endpoint-name my-endpoint --all-traffic --name blue --file managed/deployment.yml --set environment_variables.STORAGE_ACCOUNT_NAME=acc environment_variables.STORAGE_CONTAINER_NAME=cont environment_variables.FILE_NAME=hello.txt
[[ $(az ml online-deployment show -n blue -e my-endpoint --query environment_variables.FILE_NAME -o tsv) == hello.txt ]]
az ml online-deployment get-logs --name blue --endpoint-name my-endpoint
az ml online-endpoint invoke --name my-endpoint --request-file endpoints/online/model-1/sample-request.json
az ml online-endpoint delete --name my-endpoint --yes
az storage account delete --name acc --yes
az identity delete --name $UAI_NAME
"#,
    );
}

#[test]
fn models_and_environments_are_registered_named_by_flags_and_archived() {
    let (place, _server) = examples();
    place.write(
        "env.yml",
        "$schema: x\nname: my-env\nversion: 1\nimage: mcr.microsoft.com/x:1\nconda_file: endpoints/online/model-1/environment/conda.yml\n",
    );
    place.write(
        "model.yml",
        "$schema: x\nname: my-model\npath: endpoints/online/model-1/model/\ntype: custom_model\n",
    );
    place.write(
        "deployment.yml",
        "$schema: x\nname: blue\nendpoint_name: my-endpoint\nenvironment: azureml:my-env:1\ninstance_count: 1\n",
    );
    played(
        &place,
        r#"
az ml model create -f model.yml --set version=3
az ml environment create -f env.yml
[[ $(az ml model show -n my-model -v 3 --query version -o tsv) == 3 ]]
ENV_ID=$(az ml environment show -n my-env -v 1 --query id -o tsv)
MODEL_ID=$(az ml model show -n my-model --version 3 --query id -o tsv)
az ml online-endpoint create -n my-endpoint
az ml online-deployment create -f deployment.yml --set model=azureml:my-model:3 instance_type=Standard_DS3_v2 --all-traffic
az ml online-endpoint invoke -n my-endpoint --request-file endpoints/online/model-1/sample-request.json
az ml online-deployment update -n blue -e my-endpoint --set model=$MODEL_ID
az ml online-deployment update -n blue -e my-endpoint --set environment=$ENV_ID
az ml online-deployment delete --name blue --endpoint my-endpoint --yes --no-wait || {
  az ml online-endpoint update -n my-endpoint --traffic blue=0
  az ml online-deployment delete --name blue --endpoint my-endpoint --yes
}
az ml online-endpoint delete -n my-endpoint -y
az ml model archive -n my-model --version 3
az ml environment archive -n my-env -v 1
az ml model delete -n my-model --version 3
az ml environment delete --name my-env --version 1
"#,
    );
}

#[test]
fn a_rollout_written_for_kubernetes_runs_without_an_instance_type() {
    let (place, _server) = examples();
    let folder = "endpoints/online/kubernetes";
    place.write(
        &format!("{folder}/endpoint.yml"),
        "$schema: https://azuremlschemas.azureedge.net/latest/kubernetesOnlineEndpoint.schema.json\n\
         name: my-endpoint\ncompute: azureml:inference-compute\nauth_mode: key\n",
    );
    for (name, model) in [("blue", "model-1"), ("green", "model-2")] {
        place.write(
            &format!("{folder}/{name}.yml"),
            format!(
                "$schema: https://azuremlschemas.azureedge.net/latest/kubernetesOnlineDeployment.schema.json\n\
                 name: {name}\ntype: kubernetes\nendpoint_name: my-endpoint\napp_insights_enabled: true\n\
                 model: {{path: ../{model}/model/}}\n\
                 code_configuration: {{code: ../{model}/onlinescoring/, scoring_script: score.py}}\n\
                 environment: {{conda_file: ../{model}/environment/conda.yml, image: mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04}}\n\
                 environment_python: any\n\
                 request_settings: {{request_timeout_ms: 3000, max_queue_wait_ms: 3000}}\n\
                 resources: {{requests: {{cpu: '0.1', memory: 0.2Gi}}, limits: {{cpu: '1', memory: 1Gi}}}}\n\
                 liveness_probe: {{initial_delay: 45, period: 10, failure_threshold: 3}}\n\
                 scale_settings: {{type: target_utilization, min_instances: 1, max_instances: 2, polling_interval: 10, target_utilization_percentage: 70}}\n"
            ),
        );
    }
    let (_, said) = played(
        &place,
        r#"
BASE_PATH=endpoints/online/kubernetes
ENDPOINT_NAME=endpt-k8s
az ml online-endpoint create -n $ENDPOINT_NAME -f $BASE_PATH/endpoint.yml
az ml online-deployment create --name blue --endpoint $ENDPOINT_NAME -f $BASE_PATH/blue.yml --all-traffic
[[ $(az ml online-endpoint show -n $ENDPOINT_NAME --query provisioning_state -o tsv) == Succeeded ]]
[[ $(az ml online-deployment show --name blue --endpoint-name $ENDPOINT_NAME --query provisioning_state -o tsv) == Succeeded ]]
az ml online-endpoint invoke --name $ENDPOINT_NAME --request-file endpoints/online/model-1/sample-request.json
az ml online-deployment get-logs --name blue --endpoint $ENDPOINT_NAME | grep -q 'init of the script'
az ml online-deployment create --name green --endpoint $ENDPOINT_NAME -f $BASE_PATH/green.yml
az ml online-endpoint invoke --name $ENDPOINT_NAME --deployment green --request-file endpoints/online/model-1/sample-request.json
az ml online-endpoint update --name $ENDPOINT_NAME --traffic "blue=90 green=10"
az ml online-endpoint update --name $ENDPOINT_NAME --traffic "blue=0 green=100"
az ml online-deployment delete --name blue --endpoint $ENDPOINT_NAME --yes --no-wait
az ml online-endpoint delete --name $ENDPOINT_NAME --yes --no-wait
"#,
    );
    assert!(said.contains("note: "), "{said}");
}

#[test]
fn a_model_in_the_folders_of_triton_is_registered_deployed_and_asked() {
    let (place, _server) = examples();
    let folder = "endpoints/online/triton/single-model";
    let model = fs::read(repository("models/digits/1/model.onnx")).expect("a model");
    place
        .write(&format!("{folder}/models/digits/1/model.onnx"), model)
        .write(
            &format!("{folder}/model.yml"),
            "$schema: https://azuremlschemas.azureedge.net/latest/model.schema.json\n\
             name: digits-triton\nversion: 1\npath: models\ntype: triton_model\n",
        )
        .write(
            &format!("{folder}/endpoint.yml"),
            "name: my-endpoint\nauth_mode: aml_token\n",
        )
        .write(
            &format!("{folder}/deployment.yml"),
            "name: blue\nendpoint_name: my-endpoint\nmodel: azureml:digits-triton@latest\n\
             instance_count: 1\ninstance_type: Standard_NC6s_v3\n",
        );
    played(
        &place,
        r#"
BASE_PATH=endpoints/online/triton/single-model
ENDPOINT_NAME=triton-single-endpt
az ml model create -f $BASE_PATH/model.yml
[[ $(az ml model show -n digits-triton -v 1 --query type -o tsv) != "" ]]
az ml online-endpoint create -n $ENDPOINT_NAME -f $BASE_PATH/endpoint.yml
az ml online-deployment create --name blue --endpoint $ENDPOINT_NAME -f $BASE_PATH/deployment.yml --all-traffic
scoring_uri=$(az ml online-endpoint show -n $ENDPOINT_NAME --query scoring_uri -o tsv)
scoring_uri=${scoring_uri%/*}
auth_token=$(az ml online-endpoint get-credentials -n $ENDPOINT_NAME --query accessToken -o tsv)
[[ $scoring_uri == http* && $auth_token != "" ]]
az ml online-endpoint invoke -n $ENDPOINT_NAME -r endpoints/online/model-1/sample-request.json
az ml online-endpoint delete -n $ENDPOINT_NAME --yes --no-wait
az ml model archive -n digits-triton -v 1
"#,
    );
}
