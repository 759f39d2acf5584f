{{/* Name of everything in the release's namespace, and the front of what is cluster-wide. */}}
{{- define "herald.name" -}}
{{- if contains "herald" .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-herald" (.Release.Name | trunc 33 | trimSuffix "-") -}}
{{- end -}}
{{- end -}}

{{/* Name of a cluster-wide object of a component: unique among releases in all namespaces. */}}
{{- define "herald.clusterName" -}}
{{- printf "%s-%s.%s" (include "herald.name" .root) .component .root.Release.Namespace -}}
{{- end -}}

{{/* Labels that select the pods of a component; they never change during the life of a release. */}}
{{- define "herald.selector" -}}
app.kubernetes.io/name: herald
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "herald.labels" -}}
{{ include "herald.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "herald.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What both daemons and the jobs run with: nothing that can be taken away is left. */}}
{{- define "herald.lockedDown" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "herald.nonRoot" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/*
A group of values that can be switched on and off, as YAML: the group itself; where only true or false was given, the group's defaults with
that for enabled. Arguments: the values around it, its name.
*/}}
{{- define "herald.toggle" -}}
{{- $name := index . 1 -}}
{{- $given := get (index . 0 | default dict) $name -}}
{{- if kindIs "map" $given -}}
{{- toYaml $given -}}
{{- else -}}
{{- $defaults := dict
  "networkPolicy" (dict "metricsFrom" list "apiServerPorts" (list 443 6443))
  "prometheusRule" (dict "runbookURL" "https://github.com/heraldlb/herald/blob/main/docs/runbooks")
  "dashboards" (dict "labels" (dict "grafana_dashboard" "1") "annotations" (dict "grafana_folder" "Herald")) -}}
{{- merge (dict "enabled" (default false $given)) (get $defaults $name | default dict) | toYaml -}}
{{- end -}}
{{- end -}}

{{/* How metrics are served. */}}
{{- define "herald.metricsArgs" -}}
- --metrics-secure={{ .Values.metrics.secure }}
{{- if include "herald.metricsVolume" . }}
- --metrics-cert-dir=/etc/herald/metrics
{{- end }}
{{- end -}}

{{/* Their certificate, when it is in a Secret. A pod starts without it, too: announcing must not wait for a certificate. */}}
{{- define "herald.metricsVolume" -}}
{{- if and .Values.metrics.secure .Values.metrics.certSecret -}}
- name: metrics
  secret:
    secretName: {{ .Values.metrics.certSecret }}
    optional: true
    defaultMode: 0444
{{- end -}}
{{- end -}}

{{- define "herald.metricsMount" -}}
{{- if include "herald.metricsVolume" . -}}
- name: metrics
  mountPath: /etc/herald/metrics
  readOnly: true
{{- end -}}
{{- end -}}
