{{/* Name of the InferenceService, which is the model's name in URLs and in the label `model_name` of the metrics. */}}
{{- define "clickmill.endpoint" -}}
{{- default .Release.Name .Values.endpoint.name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{/* Labels of every object; selectors are written out where they are used. */}}
{{- define "clickmill.labels" -}}
app.kubernetes.io/name: clickmill
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Image reference of .Values.images.NAME, by digest where one is given. Takes (list $ "serving"). */}}
{{- define "clickmill.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- $name := printf "%s%s" (ternary (printf "%s/" $root.Values.images.registry) "" (ne $root.Values.images.registry "")) $image.repository -}}
{{- if $image.digest }}{{ $name }}@{{ $image.digest }}{{ else }}{{ $name }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end -}}
{{- end }}

{{/* Whether an optional part is rendered: true, false, or auto, which asks the cluster for its API. Takes (list $ VALUE "group/version/Kind"). */}}
{{- define "clickmill.has" -}}
{{- $root := index . 0 -}}
{{- $value := toString (index . 1) -}}
{{- if or (eq $value "true") (and (eq $value "auto") ($root.Capabilities.APIVersions.Has (index . 2))) -}}true{{- end -}}
{{- end }}

{{/* Pods and containers as the restricted Pod Security Standard asks for them: not an option. The user is that of the images. */}}
{{- define "clickmill.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* All of it again for the container: Knative takes nothing at the pod. */}}
{{- define "clickmill.containerSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Where pods of one kind go: apart from each other as far as the cluster has room. Takes (list $ "predictor"). */}}
{{- define "clickmill.spread" -}}
{{- $root := index . 0 }}
{{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
- topologyKey: {{ $key }}
  maxSkew: 1
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      app.kubernetes.io/instance: {{ $root.Release.Name }}
      component: {{ index $ 1 }}
{{- end }}
{{- end }}

{{/* The URL of the feature store, as an environment variable that arguments refer to. */}}
{{- define "clickmill.featuresEnv" -}}
- name: CLICKMILL_FEATURES
  valueFrom:
    secretKeyRef: {name: {{ .Values.features.secretName }}, key: {{ .Values.features.secretKey }}}
{{- end }}
