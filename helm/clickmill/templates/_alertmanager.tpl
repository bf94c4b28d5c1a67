{{/* A matcher as Alertmanager writes it (alertname=~"A|B") as an AlertmanagerConfig has it. */}}
{{- define "clickmill.matcher" -}}
{{- $type := regexFind "=~|!~|!=|=" . -}}
{{- $parts := regexSplit "=~|!~|!=|=" . 2 -}}
{name: {{ index $parts 0 }}, matchType: {{ $type | quote }}, value: {{ index $parts 1 }}}
{{- end }}

{{/* One route, without those below it. */}}
{{- define "clickmill.route" -}}
receiver: {{ .receiver }}
{{- with .matchers }}
matchers:
  {{- range . }}
  - {{ include "clickmill.matcher" . }}
  {{- end }}
{{- end }}
{{- with .group_by }}
groupBy: {{ toJson . }}
{{- end }}
{{- with .group_wait }}
groupWait: {{ . }}
{{- end }}
{{- with .group_interval }}
groupInterval: {{ . }}
{{- end }}
{{- with .repeat_interval }}
repeatInterval: {{ . }}
{{- end }}
{{- if .continue }}
continue: true
{{- end }}
{{- end }}
