{{/* A job of the chart, which runs the controller's program once. Arguments: root, component, hook, weight, args. */}}
{{- define "herald.job" -}}
{{- $ctx := dict "root" .root "component" .component -}}
{{- $name := printf "%s-%s" (include "herald.name" .root) .component -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  labels: {{- include "herald.labels" $ctx | nindent 4 }}
  annotations: {{- include "herald.jobHook" . | nindent 4 }}
spec:
  backoffLimit: 3
  activeDeadlineSeconds: 300
  template:
    metadata:
      labels: {{- include "herald.selector" $ctx | nindent 8 }}
    spec:
      serviceAccountName: {{ $name }}
      restartPolicy: Never
      {{- with .root.Values.image.pullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .root.Values.controller.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .root.Values.controller.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{- include "herald.nonRoot" .root | nindent 8 }}
      containers:
        - name: {{ .component }}
          image: {{ include "herald.image" .root }}
          imagePullPolicy: {{ .root.Values.image.pullPolicy }}
          command: [herald-controller]
          args: {{- toYaml .args | nindent 12 }}
          securityContext: {{- include "herald.lockedDown" .root | nindent 12 }}
{{- end -}}

{{/* Annotations of what belongs to a job. Arguments: hook, weight. */}}
{{- define "herald.jobHook" -}}
helm.sh/hook: {{ .hook }}
helm.sh/hook-weight: {{ .weight | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
