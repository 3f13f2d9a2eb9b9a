package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"disc/agent"
	"disc/discovery/devetcd/etcdtest"
	"disc/e2e/lastrelease"
)

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scripts())
}

// TestAgentsHaveOwnData checks that no agent of a script or a page has the data directory of this
// machine's agent. That of 'disc dev' is temporary.
func TestAgentsHaveOwnData(t *testing.T) {
	agents := regexp.MustCompile(`(?m)^(?:\$|start|code|exec|! exec) .*\bdisc(?:-last)? agent .*$`)
	for _, pattern := range []string{"testdata/script/*.txtar", "../docs/*.md", "../README.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: no files (%v)", pattern, err)
		}
		for _, file := range files {
			for _, line := range agents.FindAllString(string(read(t, file)), -1) {
				if !strings.Contains(line, "--data-dir ") {
					t.Errorf("%s: %s: give it a --data-dir", file, line)
				}
			}
		}
	}
}

// scripts returns how scripts are run.
func scripts() testscript.Params {
	return testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Condition:           condition,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"etcd":        etcdCommand,
			"start":       startCommand,
			"agent":       agentCommand,
			"signal":      signalCommand,
			"ended":       endedCommand,
			"output":      outputCommand,
			"await":       awaitCommand,
			"http":        httpCommand,
			"port":        portCommand,
			"code":        codeCommand,
			"same":        sameCommand,
			"expand":      expandCommand,
			"shipped":     shippedCommand,
			"pod":         podCommand,
			"certificate": certificateCommand,
			"row":         rowCommand,
			"rows":        rowsCommand,
			"lastrelease": lastReleaseCommand,
		},
	}
}

// condition evaluates [namespaces]: whether a test may create network and mount namespaces; [docker]:
// whether Docker can run in them; [http2]: whether the agent offers HTTP/2; and [lastrelease]: whether
// the last release is to be built.
func condition(name string) (bool, error) {
	if name == "namespaces" {
		return exec.Command("unshare", "--net", "--mount", "true").Run() == nil, nil
	}
	if name == "docker" {
		return runsDocker(), nil
	}
	if name == "http2" {
		return agent.OffersHTTP2(), nil
	}
	if name == "lastrelease" {
		return etcdtest.Long() && lastrelease.Check() == nil, nil
	}
	return false, fmt.Errorf("unknown condition %q", name)
}

// setUp sets the environment of a script: a short TTL and no drain delay, so that it is quick,
// and directories within its work directory.
func setUp(env *testscript.Env) error {
	env.Values[stageKey{}] = &stage{env: env, processes: map[string]*process{}}
	source, err := os.Getwd()
	if err != nil {
		return err
	}
	for name, value := range map[string]string{
		"SOURCE":            source, // the folder e2e
		"HOME":              env.WorkDir,
		"XDG_CONFIG_HOME":   filepath.Join(env.WorkDir, "config"),
		"XDG_STATE_HOME":    filepath.Join(env.WorkDir, "state"),
		"DISC_SESSION_TTL":  "5s",
		"DISC_DRAIN_DELAY":  "0s",
		"DISC_KILL_TIMEOUT": "5s",
		"DISC_LOG_FORMAT":   "json",
		"HTTPS_PROXY":       "",
		"NO_PROXY":          "",
		"DISC_ON_STOP":      "", // empty counts as absent; environ passes on only variables that are set here
		"DISC_NODE":         "n1",
		"DISC_DNS":          "127.0.0.1:0",
		"DISC_AGENT":        "http://127.0.0.1:1", // until an agent is started
		"DISC_ENDPOINTS":    "127.0.0.1:1",        // until etcd is started
		"LOAD_SECONDS":      etcdtest.Length("1", "20"),
		"GORACE":            "atexit_sleep_ms=0",
	} {
		env.Setenv(name, value)
	}
	env.Defer(env.Values[stageKey{}].(*stage).close)
	return nil
}
