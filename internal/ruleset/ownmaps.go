package ruleset

import (
	_ "embed"
	"strings"

	"github.com/clewsec/clew/internal/secl/ast"
)

// ownMapsName is the list of the sensor's own BPF maps, by which rules leave
// out what the sensor itself does.
const ownMapsName = "CWS_MAP_NAMES"

// ownMapNames is written when the sensor's programs are built. A name is cut
// as the kernel cuts it.
//
//go:embed ownmaps.txt
var ownMapNames string

// OwnMaps returns the names of the sensor's BPF maps as the kernel knows them,
// sorted.
func OwnMaps() []string { return strings.Fields(ownMapNames) }

func ownMaps() *ast.List {
	l := &ast.List{}
	for _, n := range OwnMaps() {
		l.Items = append(l.Items, &ast.String{Value: n})
	}
	return l
}
