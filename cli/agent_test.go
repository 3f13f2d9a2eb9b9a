package cli

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"disc/config"
)

func TestLogFormats(t *testing.T) {
	for _, test := range []struct {
		format   config.LogFormat
		terminal bool
		want     string
	}{
		{config.LogAuto, false, `"msg":"stopping","delay":"5s"`},
		{config.LogAuto, true, `msg=stopping delay=5s`},
		{config.LogText, false, `msg=stopping delay=5s`},
		{config.LogJSON, true, `"msg":"stopping","delay":"5s"`},
	} {
		t.Run(fmt.Sprintf("%s, terminal %v", test.format, test.terminal), func(t *testing.T) {
			var b bytes.Buffer
			a := app{io: &IO{Err: &b, Terminal: test.terminal}, config: &config.Config{Log: config.Log{Format: test.format}}}
			log := a.logger(t.Context(), slog.LevelInfo)
			log.Debug("not shown")
			log.Info("stopping", "delay", 5*time.Second)
			if got := b.String(); !strings.Contains(got, test.want) || strings.Contains(got, "not shown") {
				t.Errorf("%s, terminal %v: %s, want %s", test.format, test.terminal, got, test.want)
			}
		})
	}
}
