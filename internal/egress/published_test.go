//go:build iana

package egress_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPublishedRegistries compares testdata/registries.txt with what IANA publishes, by the files that
// scripts/check-tables.sh has fetched into WEBTRIGGER_IANA_DIR.
func TestPublishedRegistries(t *testing.T) {
	dir := os.Getenv("WEBTRIGGER_IANA_DIR")
	var published []string
	for _, name := range []string{"iana-ipv4-special-registry-1.csv", "iana-ipv6-special-registry-1.csv", "ipv6-unicast-address-assignments.csv"} {
		f, err := os.Open(filepath.Join(dir, name))
		require.NoError(t, err)
		defer f.Close()
		lines, err := readRegistry(f)
		require.NoError(t, err, name)
		published = append(published, lines...)
	}
	for _, line := range differences(committed(t), published) {
		t.Error(line)
	}
}
