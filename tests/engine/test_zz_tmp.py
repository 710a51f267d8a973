import signal, itertools, sys, logging
sys.path.insert(0,'/work/main')
import pytest
import tests.engine.test_engine as t
from tests.engine.test_engine import make, busy, rewrite, Fault, Events
@pytest.mark.parametrize("trial", list(range(300)))
def test_sig(trial):
    t.ENOUGH=5000
    got=[]
    engine=make(busy); engine.add_event_handler(Events.ITERATION_STARTED, rewrite)
    def h(num,f):
        got.append((engine.state.iteration, [(g.f_code.co_qualname, g.f_lineno) for g in (f,f.f_back,f.f_back.f_back)],[type(x) for x in (sys.exc_info())])); engine.terminate(); got.append(list(engine._posts))
    before=signal.signal(signal.SIGALRM,h)
    engine.add_event_handler(Events.ITERATION_STARTED(once=1), lambda: signal.setitimer(signal.ITIMER_REAL,0.001+0.00007*(trial%10)))
    try: engine.run(itertools.count(),epoch_length=10**9)
    except Fault as e: raise AssertionError(('LOST',trial,got, engine._posts, engine._box.state.requests))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
