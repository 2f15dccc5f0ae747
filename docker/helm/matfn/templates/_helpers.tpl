{{- define "matfn.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "matfn.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "matfn.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "matfn.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "matfn.selector" -}}
app.kubernetes.io/name: {{ include "matfn.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "matfn.labels" -}}
{{ include "matfn.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "matfn.image" -}}
{{ .Values.image.repository }}:{{ include "matfn.text" (.Values.image.tag | default .Chart.AppVersion) }}
{{- end -}}

{{- define "matfn.keys" -}}
- name: MATFN_API_KEYS
  valueFrom:
    secretKeyRef:
      name: {{ .Values.keys.secret }}
      key: {{ .Values.keys.entry }}
{{- end -}}

{{- define "matfn.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop:
    - ALL
{{- end -}}

{{/* A text, number or boolean as text. Whole numbers of a file of values come as floats, which would be written 1e+06. */}}
{{- define "matfn.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}
{{- int64 . -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* A map of texts, as labels and annotations are. */}}
{{- define "matfn.texts" -}}
{{- $texts := dict -}}
{{- range $name, $value := . -}}
{{- $_ := set $texts $name (include "matfn.text" $value) -}}
{{- end -}}
{{- toYaml $texts -}}
{{- end -}}

{{- define "matfn.cacheSize" -}}
{{- include "matfn.text" (.Values.cache.size | default (ternary "1Gi" "16Mi" (gt (int .Values.gpu.count) 0))) -}}
{{- end -}}

{{/* Whether there is the pod of `helm test`: where there are keys it needs one. */}}
{{- define "matfn.hasTest" -}}
{{- if or (not .Values.keys.secret) .Values.keys.testEntry -}}true{{- end -}}
{{- end -}}

{{- define "matfn.testLabels" -}}
app.kubernetes.io/name: {{ include "matfn.name" . }}-self-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}
