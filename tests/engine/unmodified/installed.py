"""Checks of a process in which `fengine.engine` is installed and nothing else is imported yet."""

from __future__ import annotations

import base64
import copy
import importlib
import logging
import pickle
import sys
from collections.abc import Callable
from typing import Any, Final

import ignite.engine as theirs
from typing_extensions import override

import fengine.engine as ours
from fengine import DOCUMENTED, IGNITE_0_5_5

MODULES: Final = ("", ".deterministic", ".engine", ".events", ".utils")

# What pytorch-ignite 0.5.5 has pickled, by the protocol:
# State(epoch=2, iteration=6, max_epochs=3, epoch_length=3), with metrics["loss"] = 0.5.
PICKLED: Final = tuple(
    map(
        base64.b85decode,
        (
            "V`Fb{d0%p6X9{0(Wn*t{b98cbV{~tF3UDwAC}U}7ZfSI7E@f_KX>MgMWp-t5baM(*bYXO53UDzBV_#ol"
            "b!lvLX>MO%3U6X+Wn**-a54%`bZ|2YQgAd1C}eOo3RY=!WpZJ3X>V={a5f4_HVSiAWpHm}XbNyQ3P~~w"
            "b5><=Z)0d*Y-Mg|bZ822I0{KK3UgL%VR&C<aBpL1a|&=d3Q02xb5?C(cwcFBWpZ;0a4|3nPIFdob#!ob"
            "bP8}WF$zv|R$^gvV`vI+F)|8Hb5?C-baH89a|&=VGYTkVa4|FrR%~x`a|&=VH3~*BE;R~sb5>+wbYX07"
            "VPs`;3UDzt3QluYb7f^@3UDzu3QluYbZKp6a|&=VI0`6aa4|UwRz*-xLr7mkPfbuvMN~yZ3UD$o3QluY"
            "Lr+amOhr^hL<(>+F$zv|b5>z&aA;u)a56FqMldch3UgvE",
            "V`Fb{d0%p6X9{0(Wn*t{b98cbV{~tF3UL4^V`*n@X>?^SWo~C_Ze=cIc4cmKa|%;*VRU5*aRFmrUt)D>"
            "Y;<XEUtbDuVrpe$bP90-PIPetQgH-*aRn$?2><{9X>?_BVRUJ4ZgB=n23Q3E003ohZ)0e22TKB23;+NC"
            "WpHm}XkTn)ZfA68aR^HTSPB3D0BvD-UuAG_V`y`62}=W52><{9ZDDv{X>?_Bb8!kzSOx$90B?14aCLNX"
            "3r<)C0001DVRU0?aSTpa2LJ#7ZDn+FX=8J74SjJASOfq70Bmn_b8!zxKi~iW00000b65%h003lRbYX07"
            "VPs`;aS%>e1ONa4b7f^@aS={f1poj5bZKp6b8!-VaT6$54*&oFMNm&eNMA!wO;AilR7FH_6i!$P0000("
            "PfbuvMN~yZaTQK=SOow80AXx!Xkl>{M?bllnVFfHnss6>",
            "fC6J_XKrb9WiDlIXK8L_E@gIQZgg`BQ*>c;WeRZsDS>eTeQ^RPSP1|C0BLk(a$$67Z*Fk|O9og40001G"
            "aBpL1aRf^OSPTFF0A+A*V`yJ&Wo~D5XmJHg16T?G003=acwc33Z)0e4aRy5RSP1|C0BvD-Uukq@a&vJ9"
            "PFMy2003`wbZ~WaaR^RW1poj5VqtV+XmJTnSO)+A0BvP-a%p38aSDBL3s?jI003-nb8~SFM?c^I00000"
            "0CQLh0001FVRT_^Z((F*a&Zk#SOfq70CQz!WN{8oSOow80CZ_>Wpi;4eQ^*dSPuXI07XzwLr7mkPfbuv"
            "MN~yZaS={f2><{9Lr+amOhr^hL~#;Mbyx)e003cZaA;w16GuO}nVFfHnVNNCE&",
            "fCFP`XKrb9WiDlIXK8L_E@gIQZgg`BQ*>c;WeRZsDS>eTeQ^RPSP1|C0BLk(a$$67Z*Fk|O9og40001G"
            "aBpL1aRf^OSPTFF0A+A*V`yJ&Wo~D5XmJHg16T?G003=acwc33Z)0e4aRy5RSP1|C0BvD-Uukq@a&vJ9"
            "PFMy2003`wbZ~WaaR^RW1poj5VqtV+XmJTnSO)+A0BvP-a%p38aSDBL3s?jI003-nb8~SFM?c^I00000"
            "0CQLh0001FVRT_^Z((F*a&Zk#SOfq70CQz!WN{8oSOow80CZ_>Wpi;4eQ^*dSPuXI07XzwLr7mkPfbuv"
            "MN~yZaS={f2><{9Lr+amOhr^hL~#;Mbyx)e003cZaA;w16GuO}nVFfHnVNNCE&",
            "fCQED000000001t6lrH}X>?^SWo~C_Ze=cIc4cmKbCiq)Q*>c;Wt5YYDS?!Ilqie|X>?_BVRUJ4Zj?&~"
            "j0I(IZ)0ebO9G4xWpHm}XkTn)ZfA68luHAQ3T<I{UuAG_V`y`fO9PAvZDDv{X>?_BbCgbu25)tAaCLN)"
            "PK*U&VRU0?lunEXZDn+FX=8JgeUyv@Y;SXOlt(|{00000004803S?n)VQg<<WMy)cPK*R|Wo2ZPPK*U~"
            "X>Db5lzo&aj1NUnPeVvwLr+amOhr^hM3hd92}4g!P)tQsMMRWNb&LgJY;b5{lt(|gnVFfHnVNNCE&",
            "fCZKE000000001t6lrH}X>?^SWo~C_Ze=cIc4cmKbCiq)Q*>c;Wt5YYDS?!Ilqie|X>?_BVRUJ4Zj?&~"
            "j0I(IZ)0ebO9G4xWpHm}XkTn)ZfA68luHAQ3T<I{UuAG_V`y`fO9PAvZDDv{X>?_BbCgbu25)tAaCLN)"
            "PK*U&VRU0?lunEXZDn+FX=8JgeUyv@Y;SXOlt(|{00000004803S?n)VQg<<WMy)cPK*R|Wo2ZPPK*U~"
            "X>Db5lzo&aj1NUnPeVvwLr+amOhr^hM3hd92}4g!P)tQsMMRWNb&LgJY;b5{lt(|gnVFfHnVNNCE&",
        ),
    )
)

CHECKS: Final[dict[str, Callable[[], None]]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    """Put the decorated function among the checks, under its own name."""
    CHECKS[function.__name__] = function
    return function


def echo(engine: Any, batch: Any) -> Any:
    return batch


@check
def a_second_call_does_nothing() -> None:
    finders = list(sys.meta_path)
    ours.install()
    assert sys.meta_path == finders


@check
def a_module_is_one_object_under_two_names() -> None:
    names = [name[1:] for name in MODULES if name]
    assert all(getattr(theirs, name) is sys.modules[f"ignite.engine.{name}"] for name in names)
    for name in MODULES:
        module = importlib.import_module(f"ignite.engine{name}")
        assert module.__spec__ is not None
        assert importlib.import_module(module.__name__) is module
        assert module.__spec__.name == module.__name__
        assert module.__spec__.origin == module.__file__


@check
def a_class_is_the_same_wherever_it_comes_from() -> None:
    engine: Any = importlib.import_module("ignite.engine.engine")
    events: Any = importlib.import_module("ignite.engine.events")
    deterministic: Any = importlib.import_module("ignite.engine.deterministic")
    assert engine.Engine is theirs.Engine
    assert deterministic.DeterministicEngine is theirs.DeterministicEngine
    for name in ("Events", "EventEnum", "EventsList", "State", "RemovableEventHandle"):
        assert getattr(events, name) is getattr(theirs, name) is getattr(ours, name)
        assert getattr(engine, name) is getattr(events, name)


@check
def a_star_imports_all_names() -> None:
    names: dict[str, Any] = {}
    exec("from ignite.engine import *", names)
    assert {*theirs.__all__} == names.keys() - {"__builtins__"}
    assert len(theirs.__all__) == 16
    assert {"create_supervised_trainer", "DeterministicEngine", "EventsList"} <= names.keys()


@check
def private_names_that_others_import_are_there() -> None:
    for module, names in {
        "": ["_prepare_batch", "_check_arg"],
        ".utils": ["_check_signature", "_to_hours_mins_secs"],
        ".deterministic": ["_get_rng_states", "_set_rng_states", "_repr_rng_state"],
    }.items():
        found = importlib.import_module(f"ignite.engine{module}")
        assert [name for name in names if not hasattr(found, name)] == []


@check
def classes_and_engines_are_pickled_under_both_names() -> None:
    for value in (theirs.Engine, theirs.State, theirs.Events, theirs.Events.STARTED):
        assert pickle.loads(pickle.dumps(value)) is value
    for module, name in (("engine", "Engine"), ("events", "Events"), ("events", "State")):
        by_name = pickle.loads(f"cignite.engine.{module}\n{name}\n.".encode())
        assert by_name is getattr(theirs, name)
    for kind in (theirs.Engine, theirs.DeterministicEngine):
        engine = kind(echo)
        engine.run([1, 2], 2)
        for copied in (pickle.loads(pickle.dumps(engine)), copy.deepcopy(engine)):
            assert type(copied) is kind
            assert copied.run([1, 2], 3).iteration == 6


@check
def engines_follow_the_version_that_is_replaced() -> None:
    for kind in (theirs.Engine, theirs.DeterministicEngine):
        assert kind.semantics is IGNITE_0_5_5  # type: ignore[attr-defined]
        engine = kind(echo)
        assert engine.logger.name == f"ignite.engine.engine.{kind.__name__}"
        assert engine.run([1, 2, 3], None, 4, 2).iteration == 4
    assert ours.Engine.semantics is DOCUMENTED


@check
def a_state_that_the_package_has_pickled_loads() -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        state = pickle.loads(PICKLED[protocol])
        assert type(state) is theirs.State
        assert (state.iteration, state.epoch, state.metrics) == (6, 2, {"loss": 0.5})
        engine = theirs.Engine(echo)
        engine.state = state
        assert engine.run([1, 2, 3]).iteration == 9


@check
def what_its_examples_import_is_there() -> None:
    modules: Any = {name: importlib.import_module(f"ignite.engine{name}") for name in MODULES}
    assert modules[""].convert_tensor([1]) == [1]
    assert modules[".engine"].Serializable is importlib.import_module("ignite.base").Serializable
    assert callable(modules[".deterministic"].manual_seed)
    assert modules[".engine"].Engine._is_done(theirs.State(epoch=2, max_epochs=2))


@check
def log_records_are_those_of_the_package() -> None:
    said: list[str] = []

    class Records(logging.Handler):
        @override
        def emit(self, record: logging.LogRecord) -> None:
            said.append(f"{record.name}: {record.getMessage()}")

    logger = logging.getLogger("ignite.engine.engine.Engine")
    logger.addHandler(Records())
    logger.setLevel(logging.INFO)
    theirs.Engine(echo).run([1, 2], max_epochs=2)
    for wanted in ("run starting with max_epochs=2", "Epoch[2] Complete", "run finished"):
        assert any(wanted in text for text in said)
