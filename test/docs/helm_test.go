package docs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// helmPath builds helm when the build cache does not hold it, once.
var helmPath = sync.OnceValues(func() (string, error) {
	cmd := exec.CommandContext(context.Background(), "go", "tool", "-n", "-modfile=go.tool.mod", "helm")
	cmd.Dir = root()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("building helm: %w\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
})

// render is helm template with values given as YAML, away from the user's own configuration.
func render(t *testing.T, values string) (string, error) {
	t.Helper()
	helm, err := helmPath()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	file := filepath.Join(home, "values.yaml")
	if err := os.WriteFile(file, []byte(values), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), helm, "template", "herald", filepath.Join(root(), "charts", "herald"),
		"--namespace", "herald-system", "--kube-version", "1.31.0", "-f", file)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(home, "none"), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("helm template: %w\n%s", err, stderr.String())
	}
	return stdout.String(), nil
}
