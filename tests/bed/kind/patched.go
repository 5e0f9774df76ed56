// kind-patched CLUSTER.yaml CONFIG.toml: prints what `kind create cluster` makes of its nodes' containerd configuration.
//
// It is built inside of a copy of kind (../build.sh): only kind's own packages may import these.
package main

import (
	"fmt"
	"log"
	"os"

	"sigs.k8s.io/kind/pkg/internal/apis/config/encoding"
	"sigs.k8s.io/kind/pkg/internal/patch"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		log.Fatal("kind-patched CLUSTER.yaml CONFIG.toml")
	}
	patched, err := patched(os.Args[1], os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(patched)
}

func patched(clusterPath, configPath string) (string, error) {
	cluster, err := encoding.Load(clusterPath)
	if err != nil {
		return "", err
	}
	cluster.Name = "kind" // as its command line says by default
	if err := cluster.Validate(); err != nil {
		return "", err
	}
	config, err := os.ReadFile(configPath)
	if err != nil {
		return "", err
	}
	return patch.ContainerdTOML(string(config), cluster.ContainerdConfigPatches, cluster.ContainerdConfigPatchesJSON6902)
}
