{{/* What Deployment and CronJob have in common: the pod without its containers. */}}
{{- define "clickmill.driftPod" -}}
serviceAccountName: {{ include "clickmill.endpoint" . }}-jobs
automountServiceAccountToken: false
securityContext:
  {{- include "clickmill.podSecurity" . | nindent 2 }}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: tmp
    emptyDir: {sizeLimit: 2Gi}
  - name: log
    persistentVolumeClaim: {claimName: {{ required "predictionLog.claim: drift reads the prediction log; name its claim, or set drift.enabled=false" .Values.predictionLog.claim }}, readOnly: true}
  - name: store
    persistentVolumeClaim: {claimName: {{ required "store.claim: drift compares with the bundles of the store; name its claim, or set drift.enabled=false" .Values.store.claim }}, readOnly: true}
  - name: out
    {{- if .Values.drift.claim }}
    persistentVolumeClaim: {claimName: {{ .Values.drift.claim }}}
    {{- else if .Values.drift.schedule }}
    {{- fail "drift.claim: a CronJob's reports would go with its pod; name the claim that keeps them" }}
    {{- else }}
    emptyDir: {sizeLimit: 2Gi}
    {{- end }}
{{- end }}

{{/* The container, whose last list is its arguments: the caller goes on with them. */}}
{{- define "clickmill.driftContainer" -}}
name: drift
image: {{ include "clickmill.image" (list . "monitoring") }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
env:
  # The reference hashes personal fields as the log does.
  - name: CLICKMILL_LOG_SALT
    valueFrom:
      secretKeyRef: {name: {{ .Values.predictionLog.saltSecretName }}, key: {{ .Values.predictionLog.saltSecretKey }}}
resources:
  {{- toYaml .Values.drift.resources | nindent 2 }}
securityContext:
  {{- include "clickmill.containerSecurity" . | nindent 2 }}
volumeMounts:
  - {name: tmp, mountPath: /tmp}
  - {name: log, mountPath: /data/log, readOnly: true}
  - {name: store, mountPath: /data/store, readOnly: true}
  - {name: out, mountPath: /data/drift}
command: [clickmill, monitor, drift]
args:
  - --log=/data/log
  - --store=/data/store{{ with .Values.store.path }}/{{ . }}{{ end }}
  - --out=/data/drift
  {{- range .Values.drift.args }}
  - {{ . | quote }}
  {{- end }}
{{- end }}
