package discovery

import (
	"errors"
	"strings"
	"testing"
)

func TestParseName(t *testing.T) {
	tests := []struct {
		name string
		want Name
	}{
		{"web", Name{Service: "web"}},
		{"Web", Name{Service: "Web"}},
		{"svc", Name{Service: "svc"}},
		{"disc", Name{Service: "disc"}},
		{"v2.web", Name{Tag: "v2", Service: "web"}},
		{"inst.web", Name{Tag: "inst", Service: "web"}},
		{"_web._tcp", Name{Service: "web"}},
		{"_web._udp", Name{Service: "web"}},
		{"_WEB._TCP", Name{Service: "WEB"}},
		{"_grpc._tcp.web", Name{Port: "grpc", Service: "web"}},
		{"web-1.web.inst", Name{Kind: NameInstance, ID: "web-1", Service: "web"}},
		{"10.0.0.5:80.web.inst", Name{Kind: NameInstance, ID: "10.0.0.5:80", Service: "web"}},
		{"web-1.web.INST", Name{Kind: NameInstance, ID: "web-1", Service: "web"}},
		{"host-1.node", Name{Kind: NameNode, Node: "host-1"}},
		{"host-1.example.com.node", Name{Kind: NameNode, Node: "host-1.example.com"}},
		{"_services._dns-sd._udp", Name{Kind: NameBrowse}},
		{"_SERVICES._DNS-SD._UDP", Name{Kind: NameBrowse}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			forms := []string{tt.name}
			if tt.want.Kind == NameService || tt.want.Kind == NameBrowse {
				forms = append(forms, tt.name+".svc", tt.name+".SvC")
			}
			for _, form := range forms {
				for _, suffix := range []string{"", ".", ".disc", ".disc.", ".DiSc."} {
					got, err := ParseName(form+suffix, "disc.")
					if err != nil || got != tt.want {
						t.Errorf("ParseName(%q) = %+v, %v; want %+v", form+suffix, got, err, tt.want)
					}
				}
			}
		})
	}
}

func TestParseNameDomain(t *testing.T) {
	tests := []struct {
		name, domain string
		want         Name
	}{
		{"web.disc", "", Name{Tag: "web", Service: "disc"}},
		{"web.svc.sd.example.com.", "sd.example.com", Name{Service: "web"}},
		{"web.svc.sd.example.com", ".sd.example.com.", Name{Service: "web"}},
		{"web.disc.svc", "disc.", Name{Tag: "web", Service: "disc"}},
		{"v2.web", "eb", Name{Tag: "v2", Service: "web"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := ParseName(tt.name, tt.domain); err != nil || got != tt.want {
				t.Errorf("ParseName(%q, %q) = %+v, %v; want %+v", tt.name, tt.domain, got, err, tt.want)
			}
		})
	}
}

func TestParseNameInvalid(t *testing.T) {
	tests := []struct{ name, message string }{
		{"", `service name is empty`},
		{".", `service name is empty`},
		{"web..", `service name is empty`},
		{"..web", `of no known form`},
		{".web", `of no known form`},
		{".svc", `service name is empty`},
		{".web.svc", `of no known form`},
		{"a.b.web", `of no known form`},
		{"a.b.web.svc", `of no known form`},
		{"web.inst", `of no known form`},
		{".web.inst", `instance id is empty`},
		{"web-1..inst", `service name is empty`},
		{".node", `node name is empty`},
		{"_web", `service name "_web" begins with "_"`},
		{"_web.svc", `service name "_web" begins with "_"`},
		{"_web.web", `of no known form`},
		{"_._tcp", `service name is empty`},
		{"_._tcp.web", `of no known form`},
		{"_gr:pc._tcp.web", `port name "gr:pc" has ':'`},
		{"_web._sctp", `of no known form`},
		{"_web._tcp.web.web", `of no known form`},
		{"-web", `service name "-web" begins with "-"`},
		{"v:2.web", `tag "v:2" has ':'`},
		{"wéb", `has 'é'`},
		{"web\x00", `has '\x00'`},
		{strings.Repeat("a", 64), `has 64 characters; at most 63`},
		{strings.Repeat("a", 129) + ".web.inst", `has 129 characters; at most 128`},
		{strings.Repeat("a.", 513), `has 1026 bytes; at most 1024`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseName(tt.name, "disc.")
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("ParseName(%q) = %+v, %v; want an ErrInvalid with %q", tt.name, got, err, tt.message)
			}
		})
	}
}

func TestValidators(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	names := map[string]string{ // name: part of the message; empty: valid
		"web": "", "Web-2_x.y": "", "9": "", long(63): "",
		"":       "is empty; give 1 to 63 letters, digits or - _ .",
		long(64): "has 64 characters; at most 63 are allowed",
		"-web":   `begins with "-"; begin with a letter or digit`,
		".web":   `begins with "."`,
		"a:b":    `has ':'; use letters, digits and - _ .`,
		"a/b":    `has '/'`, "a b": `has ' '`, "é": "begin with a letter or digit", "aé": `has 'é'`, "a\xff": "has",
	}
	ids := map[string]string{
		"web-1": "", "10.0.0.5:80": "", long(128): "",
		long(129): "has 129 characters; at most 128 are allowed",
		":80":     `begins with ":"`, "a/b": `has '/'; use letters, digits and - _ . :`, "": "is empty",
	}
	nodes := map[string]string{
		"host-1.example.com": "", long(253): "", long(254): "at most 253", "a/b": `has '/'`, "": "is empty",
	}
	tests := []struct {
		what     string
		validate func(string) error
		cases    map[string]string
	}{
		{"namespace", ValidateNamespace, names},
		{"service name", ValidateService, names},
		{"tag", ValidateTag, names},
		{"instance id", ValidateID, ids},
		{"node name", ValidateNode, nodes},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			for s, message := range tt.cases {
				err := tt.validate(s)
				switch {
				case message == "" && err != nil:
					t.Errorf("%s %q: %v", tt.what, s, err)
				case message != "" && (!errors.Is(err, ErrInvalid) || !strings.HasPrefix(err.Error(), tt.what) || !strings.Contains(err.Error(), message)):
					t.Errorf("%s %q: %v; want an ErrInvalid with %q", tt.what, s, err, message)
				}
			}
		})
	}
}

// write returns the longest form of a name.
func (n Name) write() string {
	switch {
	case n.Kind == NameBrowse:
		return "_services._dns-sd._udp.svc"
	case n.Kind == NameNode:
		return n.Node + ".node"
	case n.Kind == NameInstance:
		return n.ID + "." + n.Service + ".inst"
	case n.Tag != "":
		return n.Tag + "." + n.Service + ".svc"
	case n.Port != "":
		return "_" + n.Port + "._tcp." + n.Service + ".svc"
	}
	return n.Service + ".svc"
}

func FuzzParseName(f *testing.F) {
	for _, seed := range []string{
		"web", "v2.web.svc.disc.", "_web._tcp.svc", "_grpc._tcp.web", "a.b.web.inst", "h.node.", "_services._dns-sd._udp.svc", "..", "_._tcp.x",
	} {
		f.Add(seed, "disc.")
	}
	f.Fuzz(func(t *testing.T, s, domain string) {
		n, err := ParseName(s, domain)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || n != (Name{}) {
				t.Fatalf("ParseName(%q, %q) = %+v, %v", s, domain, n, err)
			}
			return
		}
		if err := n.validate(); err != nil {
			t.Fatalf("%q parses to %+v: %v", s, n, err)
		}
		if again, err := ParseName(n.write()+".disc.", "disc"); err != nil || again != n {
			t.Fatalf("%q is %+v, but %q is %+v, %v", s, n, n.write(), again, err)
		}
	})
}
