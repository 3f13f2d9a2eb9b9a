package discovery

import "testing"

func TestCursor(t *testing.T) {
	for text, want := range map[string]Cursor{
		"42-e": {"e", 42, 0}, "42.7-a-b": {"a-b", 42, 7}, "0-": {"", 0, 0},
	} {
		t.Run(text, func(t *testing.T) {
			if p, ok := ParseCursor(text); !ok || p != want || p.String() != text {
				t.Errorf("%q is %+v, %v", text, p, ok)
			}
		})
	}
	for _, text := range []string{"", "42", "-e", "x-e", "-1-e", "1.-e", "1.0-e", "1.-1-e", "1.x-e"} {
		t.Run(text, func(t *testing.T) {
			if p, ok := ParseCursor(text); ok {
				t.Errorf("%q is %+v", text, p)
			}
		})
	}
	order := []Cursor{{"e", 41, 9}, {"e", 42, 0}, {"e", 42, 1}, {"e", 43, 0}}
	for n := range order[1:] {
		if order[n].Compare(order[n+1]) >= 0 || order[n+1].Compare(order[n]) <= 0 {
			t.Errorf("%v and %v", order[n], order[n+1])
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("42-epoch")
	f.Add("42.3-epoch")
	f.Fuzz(func(t *testing.T, s string) {
		p, ok := ParseCursor(s)
		if again, _ := ParseCursor(p.String()); ok && (again != p || p.Revision < 0) {
			t.Errorf("%q: %+v, then %+v", s, p, again)
		}
	})
}
