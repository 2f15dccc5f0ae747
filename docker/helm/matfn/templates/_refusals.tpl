{{/* What values.schema.json has no words for: each value that would be rendered and then fail in the cluster. */}}

{{/* Variables that other values give, and which. */}}
{{- define "matfn.owned" -}}
MATFN_HOST: the image listens on all addresses of the pod
MATFN_PORT: the pod's port is 8000, to which Service and probes go; service.port is the one that callers see
MATFN_UDS: the pod's port is 8000, to which Service and probes go
MATFN_GRPC_PORT: set grpc.enabled and grpc.port
MATFN_DEVICE: set gpu.count
MATFN_WORKERS: there is one worker a core of resources.limits.cpu
MATFN_LANES: there is one worker a core of resources.limits.cpu
MATFN_DRAIN_SECONDS: set drainSeconds, with which the pod's grace period grows
MATFN_API_KEYS: keys are those of the Secret keys.secret, in its entry keys.entry
MATFN_API_KEYS_FILE: keys are those of the Secret keys.secret, in its entry keys.entry
MATFN_CACHE_DIR: it is /var/cache/matfn, the one folder that can be written, of cache.size
{{- end -}}

{{- define "matfn.refusals" -}}
{{- include "matfn.refuseNames" . -}}
{{- include "matfn.refuseVariables" . -}}
{{- include "matfn.refuseKeys" . -}}
{{- include "matfn.refusePorts" . -}}
{{- include "matfn.refuseReplicas" . -}}
{{- include "matfn.refuseLabels" (list "podLabels" .Values.podLabels .) -}}
{{- include "matfn.refuseLabels" (list "podMonitor.labels" .Values.podMonitor.labels .) -}}
{{- if and .Values.gpu.count (not .Values.image.tag) -}}
{{- fail "gpu.count needs image.tag, the tag of an image built with --build-arg TORCH=cuda: the chart's own version is the image for CPUs" -}}
{{- end -}}
{{- end -}}

{{- define "matfn.refuseNames" -}}
{{- $name := include "matfn.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%s cannot be the name of a Service, which begins with a small letter and has only small letters, digits and hyphens: take another name for the release, or set fullnameOverride" $name) -}}
{{- end -}}
{{- if and .Values.autoscaling.enabled (eq .Values.autoscaling.by "keda") (gt (len $name) 46) -}}
{{- fail (printf "%s has more than 46 characters, beyond which Kubernetes cuts the names of pods, by which KEDA's query finds them: set a shorter fullnameOverride" $name) -}}
{{- end -}}
{{- end -}}

{{- define "matfn.refuseVariables" -}}
{{- $owned := include "matfn.owned" . | fromYaml -}}
{{- range $name, $value := .Values.settings -}}
{{- with get $owned $name -}}
{{- fail (printf "settings.%s cannot be set: %s" $name .) -}}
{{- end -}}
{{- end -}}
{{- $seen := dict -}}
{{- range .Values.env -}}
{{- if hasKey $owned .name -}}
{{- fail (printf "%s cannot be set in env: %s" .name (get $owned .name)) -}}
{{- end -}}
{{- if or (hasKey $seen .name) (hasKey $.Values.settings .name) -}}
{{- fail (printf "%s is set twice: name each variable once, in settings or in env" .name) -}}
{{- end -}}
{{- $_ := set $seen .name true -}}
{{- end -}}
{{- end -}}

{{- define "matfn.refuseKeys" -}}
{{- if and .Values.keys.secret (not .Values.keys.entry) -}}
{{- fail "keys.entry is empty: name the entry of the Secret with the keys, or set keys.secret to nothing to serve without keys" -}}
{{- end -}}
{{- if and .Values.podMonitor.enabled .Values.podMonitor.keyEntry (not .Values.keys.secret) -}}
{{- fail "podMonitor.keyEntry is an entry of the Secret keys.secret, which is empty: name the Secret, or leave out podMonitor.keyEntry" -}}
{{- end -}}
{{- end -}}

{{- define "matfn.refusePorts" -}}
{{- if .Values.grpc.enabled -}}
{{- if eq (int .Values.grpc.port) 8000 -}}
{{- fail "grpc.port is 8000, the pod's port for HTTP: take another, such as 8001" -}}
{{- end -}}
{{- if eq (int .Values.grpc.port) (int .Values.service.port) -}}
{{- fail (printf "grpc.port and service.port are both %d: the Service needs two" (int .Values.service.port)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "matfn.refuseReplicas" -}}
{{- with .Values.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas=%d is above autoscaling.maxReplicas=%d" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Arguments: the value's name, the labels in it, and the root. */}}
{{- define "matfn.refuseLabels" -}}
{{- $value := index . 0 -}}
{{- $own := include "matfn.labels" (index . 2) | fromYaml -}}
{{- range $name, $_ := index . 1 -}}
{{- if hasKey $own $name -}}
{{- fail (printf "%s has %s, which the chart sets itself and selects its pods by: take another label" $value $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
