/* SIGINT, SIGTERM and SIGHUP as a request to stop at the next good moment.
 *
 * While caught, the first such signal is only remembered, and work that can be long asks for it; a
 * second one of its kind ends the process as usual. A signal that was ignored at the start (nohup)
 * stays ignored. */
#ifndef RQ_RUNTIME_BASE_INTERRUPT_H
#define RQ_RUNTIME_BASE_INTERRUPT_H

void rq_interrupt_catch(void);   /* forgets an earlier one */
void rq_interrupt_release(void); /* signals act as before the call above */

/* The number of the signal that came since rq_interrupt_catch, 0: none. */
int rq_interrupt_signal(void);

#endif
